"""Other projects' sinks, run by the interpreter of `.venv-peers`; nothing here may import coinstream."""

"""The revisions, one module each, oldest first."""

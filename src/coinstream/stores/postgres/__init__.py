"""PostgreSQL: schema and migrations, the sink's writes, and the reads of operations.

`write.PostgresWriter` is what the sink drives, `read.PostgresReader` what comparisons ask, and
`migrate.migrate` makes a database match the code. This package names none of them here, so that
each stays behind its own import contract.
"""

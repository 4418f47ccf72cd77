"""The text of a file, read in a child process with limits, because parsers of documents crash, hang and use memory.

`process` starts the child and reads its result. Everything else here runs in the child: `child` is its program,
`sandbox` has its limits, and each other module reads one kind of file.
"""

"""The archival: bundling of idle conversations in runs, and restoring by conversation, user or run.

`app/services/archives.py` handles one bundle. Here, `candidates` selects conversations, `batch` bundles a few of them,
`run` goes through all of them, and `throttle` gives way to chats.
"""

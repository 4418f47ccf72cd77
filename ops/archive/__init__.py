"""The archival: idle conversations go into bundles, run by run, and come back by conversation, by user or by run.

`app/services/archives.py` knows one bundle. Here is who is to be archived (`candidates`), how a few of them are
(`batch`), how a run goes through all (`run`) and who it lets go first (`load`).
"""

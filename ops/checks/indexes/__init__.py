"""The index doctor: what is wrong with the indexes of this database, and which statement would mend it."""

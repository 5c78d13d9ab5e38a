"""A published version for people and systems outside: files of text, workbooks, databases."""

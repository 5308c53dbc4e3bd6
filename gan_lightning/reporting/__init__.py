"""Runs side by side: found and read without trusting their files, ranked, drawn, written as one page and a table."""

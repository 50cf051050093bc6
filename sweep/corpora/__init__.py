"""From documents, wherever they are, to the token streams of a corpus; sweep/data.py puts it all together."""

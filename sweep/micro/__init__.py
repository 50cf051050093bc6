"""A graded problem set in HumanEval's format, partly solved by models of 1e10 to 1e15 training FLOPs, from a grammar.

``facts`` and ``steps`` are the lexicon, ``grammar`` composes and renders, ``documents`` are training examples,
``problems`` is the evaluated set; what is evaluated is held out of the documents.
"""

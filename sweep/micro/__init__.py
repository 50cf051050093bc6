"""A graded problem set in HumanEval's format, written by a seeded grammar, that models of 1e10 to 1e15 FLOPs can partly solve.

``facts`` and ``steps`` are the lexicon, ``grammar`` composes and renders, ``documents`` are training examples,
``problems`` is the evaluated set; what is evaluated is held out of the documents.
"""

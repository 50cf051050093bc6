"""Processes that train a block of steps when it is their turn: this project and the tools it is compared with.

Those of other tools run in an environment of their own (requirements.txt) and import nothing but it and this folder.
"""

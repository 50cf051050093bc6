"""A sweep on a Slurm cluster: what is submitted, who holds a run, what became of an element.

``sweep/job.py`` is what a job does, ``sweep/cancel.py`` and ``sweep/sync.py`` are commands.
"""

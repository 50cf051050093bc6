"""Verdicts on programs written by a model, from processes that can't be fooled.

Data flow: problems -> pool -> worker -> checker -> sandbox -> server -> child.

A *checker* is trusted: it alone has a problem's test and runs it, with a stand-in for the function under
test. Every call of the stand-in goes to a *child*, an untrusted process that holds the program and answers
with plain data. A child knows no test and no expected value, and has no word for "passed".

    problems   problem files in HumanEval's format
    plain      the plain data that cross the border, and their encoding
    guard      what a process gives up before it runs a stranger's program (Linux)
    server     forks, kills and reaps children; the standard library is loaded in it once
    child      compiles and runs one program, answers calls
    tame       programs that can share a child, told from their compiled code
    sandbox    a checker's handle on its server and children: time limits, frames, restarts
    canary     a program that tries what must be denied, at every start
    checker    one program, one verdict
    worker     a checker in a process of its own
    pool       several workers, none of whose deaths loses a verdict
"""

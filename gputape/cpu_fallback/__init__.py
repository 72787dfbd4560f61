"""The bodies, in NumPy: one function per op under the op's name, same file stem as its card.

`body(xp, *outputs, *inputs, **attrs)`: outputs first, allocated by the runner from the card's rule, then inputs;
attributes by keyword.
Bodies compute through `xp` with `out=` into outputs or declared scratch. A trailing underscore keeps a body from
shadowing a Python builtin (`sum_` is the body of `sum`).
"""

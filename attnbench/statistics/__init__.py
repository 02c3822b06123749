"""Statistics: pure functions of arrays.

A statistic that records are to contain also needs a field in `attnbench.records.record`. It is computed
for a record in `attnbench.records.summary`.
"""

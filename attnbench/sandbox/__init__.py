"""The untrusted side: the fork server and the workers that run submissions.

Nothing here may import stimuli, records or the judge: a submission shares a process with this code
and can reach whatever it has imported. `attnbench.isolation.visible_paths` lists the packages that
workers can neither import nor read.
"""

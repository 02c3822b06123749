"""The untrusted side: a template process, the workers forked from it, what they leave behind."""

"""What passes between the judge and a worker: bounded messages, shared images, artefacts."""

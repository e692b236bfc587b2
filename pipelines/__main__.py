"""`python -m pipelines` is `sae`; so torchrun starts it: `torchrun --nproc-per-node 4 -m pipelines harvest CONFIG`."""

from pipelines.cli import main

main()

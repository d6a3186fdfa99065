"""`make bench`: figures side by side in one run, medians of alternating rounds, written to docs/benchmarks.md."""

"""What the benchmarks share: a backlog, processes whose cost the kernel tells, our worker, results with dates."""

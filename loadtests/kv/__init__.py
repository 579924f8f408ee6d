"""Measuring the KV layer on real vLLM: engines in this process, workloads, rivals. `loadtests.kv_layer` runs
it."""

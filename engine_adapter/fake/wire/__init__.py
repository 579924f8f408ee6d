"""The bytes of each API family, as vLLM 0.32 writes them: what requests mean and what answers look like."""

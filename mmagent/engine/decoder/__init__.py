"""A decoder that runs: a ragged batch of tokens in, logits out. It knows rows and weights, no prompts and no text.

network   the port, and which of its implementations a network gets
blocks    what a Llama-like decoder is made of: the families
native    our C++ kernels (kernels/): CPUs with AVX-512
fused     torch operations, CUDA graphs and Triton: GPUs, and other CPUs
module    the network's own forward in transformers: everything else
"""

"""Numerics for scattering images: arrays in, arrays out; no orchestration, storage or file format."""

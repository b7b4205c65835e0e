"""Dense networks of dilated convolutions in memory that grows with the number of layers, not with its square.

All layer outputs live in one buffer (N, C, P), P pixels, each written once; one buffer of the same size holds the
gradient. A dilated convolution is a matrix product that gives one plane per tap of the kernel, and a sum of these
planes shifted by the dilation. So the layers can be taken in blocks: what all earlier planes give to a whole block is
one matrix product, which runs at the speed of arithmetic, not of memory, whatever the dilations are.
"""

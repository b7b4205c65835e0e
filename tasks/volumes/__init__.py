"""Slices and volumes to segment, and labels for them, from whatever people keep them in.

open_volume    a scan store, TIFF stack, folder or glob of slices, single image, Zarr or HDF5 array, read slice by slice
ring_filter    what takes ring artifacts out of a volume; without_rings: the volume without them
read_labels    labels of the same kinds, or PNG, as classes of each pixel
"""

from tasks.volumes.labels import ClassMap, Labels, read_labels
from tasks.volumes.rings import ring_filter, without_rings
from tasks.volumes.volume import Volume, open_volume

__all__ = ["ClassMap", "Labels", "Volume", "open_volume", "read_labels", "ring_filter", "without_rings"]

"""Media turns untrusted bytes into safe pixels: sniffed, limited, decoded, and kept by content hash.

It knows nothing of models, turns or tools. Importing it loads no decoder.
"""

from __future__ import annotations

from mmagent.media.blobs import BlobStore
from mmagent.media.images import ImageInfo, check_image, decode_image
from mmagent.media.sniff import sniff

__all__ = ["BlobStore", "ImageInfo", "check_image", "decode_image", "sniff"]

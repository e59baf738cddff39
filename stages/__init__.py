"""Files in, files out: one module a stage."""

import os

# OpenCV takes memory for as many pixels as a picture's header claims. This is read when cv2 is first imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 27))

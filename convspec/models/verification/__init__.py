"""Verify an ONNX graph convolution by convolution; the audit runs in a child process."""

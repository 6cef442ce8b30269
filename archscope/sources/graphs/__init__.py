"""ONNX graphs: read without their weights, and run as a module of PyTorch on the meta device."""

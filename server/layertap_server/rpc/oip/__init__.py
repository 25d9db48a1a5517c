"""The Open Inference Protocol of KServe and Triton, beside the services of Layertap and on the same request path."""

"""What a GPU says of attngen: oracle tests, every config, and the table beside cuDNN, FlashAttention and FlexAttention.

    python -m benchmarks.gpu check | tune | table

Each command takes up by itself what an earlier run of it left, and stops before its time is over.
"""

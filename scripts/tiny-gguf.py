"""Writes a tiny language model with random weights to standard output, as GGUF.

It is of llama.cpp's "llama" architecture: a token for every byte, 64 wide, 2 layers.
It says nothing sensible, but llama.cpp serves it like any other model. It keeps
to small letters, and ends its answer after the first full stop. The file is the
same every time.
"""

import os
import sys
import tempfile

import numpy as np
import gguf

WIDTH, LAYERS, HEADS, INNER, CONTEXT = 64, 2, 4, 128, 131072
BYTES = 256
UNKNOWN, BEGIN, END, FIRST_BYTE = 0, 1, 2, 3
SPOKEN = b"abcdefghijklmnopqrstuvwxyz ,."

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def vocabulary(writer):
    tokens = [b"<0x%02X>" % b for b in range(BYTES)]
    types = [gguf.TokenType.BYTE] * BYTES
    tokens = [b"<unk>", b"<s>", b"</s>"] + tokens
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + types
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def weights(writer, size):
    random = np.random.RandomState(20260101)

    def noise(rows, columns):
        return random.normal(0, 0.08, (rows, columns)).astype(np.float32)

    def matrix(name, rows, columns):
        writer.add_tensor(name, noise(rows, columns))

    def ones(name):
        writer.add_tensor(name, np.ones(WIDTH, dtype=np.float32))

    # The first dimension is large for every token, so that its column in the
    # output works as a bias; the second is so after a full stop alone.
    stop = FIRST_BYTE + ord(".")
    tokens = noise(size, WIDTH)
    tokens[:, 0], tokens[:, 1] = 4, 0
    tokens[stop, 1] = 4
    output = noise(size, WIDTH)
    output[:, 0], output[:, 1] = -4, 0
    for byte in SPOKEN:
        output[FIRST_BYTE + byte, 0] = 0
    output[END, 1] = 9
    writer.add_tensor("token_embd.weight", tokens)
    ones("output_norm.weight")
    writer.add_tensor("output.weight", output)
    for n in range(LAYERS):
        ones(f"blk.{n}.attn_norm.weight")
        ones(f"blk.{n}.ffn_norm.weight")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{n}.{part}.weight", WIDTH, WIDTH)
        matrix(f"blk.{n}.ffn_gate.weight", INNER, WIDTH)
        matrix(f"blk.{n}.ffn_up.weight", INNER, WIDTH)
        matrix(f"blk.{n}.ffn_down.weight", WIDTH, INNER)


def main():
    # The writer wants a file that it can seek in.
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tiny.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_name("tiny-random")
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(WIDTH)
        writer.add_block_count(LAYERS)
        writer.add_feed_forward_length(INNER)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(HEADS)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(WIDTH // HEADS)
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        size = vocabulary(writer)
        writer.add_vocab_size(size)
        weights(writer, size)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with open(path, "rb") as f:
            sys.stdout.buffer.write(f.read())


main()

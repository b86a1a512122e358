"""tiny-model.py FOLDER - a Llama of two layers with random weights (0.56 M parameters) and a tokenizer of its own.

For trying and testing only: what it says means nothing. It is made from a fixed seed and from the text of Python's own
library, so nothing has to be fetched from a model hub.
"""
import glob
import os
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = sys.argv[1]
texts = [open(path, errors="ignore").read() for path in sorted(glob.glob(os.path.dirname(os.__file__) + "/*.py"))[:120]]

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
    vocab_size=1024, special_tokens=["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
tokens = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=2048)
tokens.chat_template = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}")

torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=len(tokens), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=32, max_position_embeddings=2048, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    tie_word_embeddings=False, dtype="bfloat16")).to(torch.bfloat16)
# Tokens that are no whole text never win: a stream then has one event a token, as with a model that speaks.
partial = {i for i in range(len(tokens)) if "\ufffd" in tokens.decode([i])} | {0, 1, 3, 4}
whole = [i for i in range(len(tokens)) if i not in partial]
head = model.lm_head.weight.data
for i in partial:
    head[i] = head[whole[i % len(whole)]] * 0.5

tokens.save_pretrained(folder)
model.save_pretrained(folder)
print(f"{folder}: {sum(p.numel() for p in model.parameters())} parameters")

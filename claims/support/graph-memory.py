"""The step of claims/graph/memory by torch and PEFT: resident sizes in bytes as one line of JSON.

The same sizes, batch and adapter as claims/support/graph-model.ts; weights are random, as there.
"""

import json
import os
import resource
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    torch.set_num_threads(1)
    sizes = json.loads(sys.argv[1])
    library = resident()
    config = BertConfig(
        vocab_size=sizes["vocabulary"],
        hidden_size=sizes["width"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["feedForward"],
        max_position_embeddings=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=2,
    )
    base = BertForSequenceClassification(config)
    model_size = resident()
    lora = LoraConfig(
        r=8, lora_alpha=16, target_modules=["query", "value"], modules_to_save=["classifier"]
    )
    model = get_peft_model(base, lora)
    loaded = resident()
    shape = (sizes["batch"], sizes["length"])
    batch = {
        "input_ids": torch.ones(shape, dtype=torch.long),
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "labels": torch.ones(shape[0], dtype=torch.long),
    }
    for _ in range(3):
        model.zero_grad()
        model(**batch).loss.backward()
    sizes_met = {"libraryRss": library, "modelRss": model_size, "loadedRss": loaded, "peakRss": peak()}
    print(json.dumps(sizes_met))


main()

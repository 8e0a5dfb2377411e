"""The LLM-Adapters collection: where its files are, and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Collection:
    """Where the files of several families can be downloaded, in the LLM-Adapters layout.

    Attributes:
        title: in messages.
        url: of its root, at one commit.
        sha256: by path below it, of the content with line ends as "\\r\\n"; files that are not named pass as they come.
    """

    title: str
    url: str
    sha256: Mapping[str, str] = field(default_factory=dict, hash=False)


COMMIT = "816657208af4db747803f87ba40a4c71383fed7a"  # others pin it too, Apple's CoreNet among them
# SHA-256 with line ends as "\r\n". Ten are of files that were at hand; those of HellaSwag, WinoGrande and the commonsense mixture
# are from another project's manifest of this commit (xiaohuangji/MoC, benchmarks/finetuning, written on Windows), whose other six
# are as ours. Of math_10k.json, AQuA and SVAMP only the commit is pinned.
SHA256 = {
    "dataset/ARC-Challenge/test.json": "2ff5c51f145fd602a081fe3b6452dc1c0f5ecc43c1a3d213e62f9c528d35d10c",
    "dataset/ARC-Easy/test.json": "95d411e393f56adb47e431104b7df45fd5ca62c6c01b321075378e157c16c7ec",
    "dataset/AddSub/test.json": "4ba0de31eeb0605c3e27f6dd51ff23b8587b7653723be1ba79517491e4bd5c44",
    "dataset/MultiArith/test.json": "e529f87c0e3d94be72a6a69599a0c29191bfa67045554677a0f78fee68ef8466",
    "dataset/SingleEq/test.json": "e2370506700d891606affe17055ffbabeb4787f0f61a74b89408c65fb78702a9",
    "dataset/boolq/test.json": "779a192226b6fa2840340abacc46f9584b895c39d3c47b7aaf4d8585dda3ebc1",
    "dataset/gsm8k/test.json": "beb9547488c90b84c5498d1ffa33499ecfe640f3807f6ee3672a4080125a79e3",
    "dataset/hellaswag/test.json": "a1bfd0f1729c7e62ba1d1a211c283d459ff6c40476e3d1dcc2941ff338e7d207",
    "dataset/openbookqa/test.json": "3edf2c3acf92cbef8c196b731af433c25f2b253d6f45644d0ffc149d5bcac1bf",
    "dataset/piqa/test.json": "63cf5b5d088a06aceffc014cd76045e3c03d713ba0d4974260052956fe1e4234",
    "dataset/social_i_qa/test.json": "2318ddcfb429f35cbcb3f4b4f5caeccf9b9b4a51b9e2d0624c2771ee98c9f3a7",
    "dataset/winogrande/test.json": "5a9db0e2ea6fddd05f8e1f71b0dd285f1377b210041d11853fc2fe7f7a06ac77",
    "ft-training_set/commonsense_170k.json": "687b018be6b4665590772b03d96ceec63926a99573a174f4c8891cce0af53b73",
}
LLM_ADAPTERS = Collection(
    "LLM-Adapters", f"https://raw.githubusercontent.com/AGI-Edgerunners/LLM-Adapters/{COMMIT}", SHA256
)

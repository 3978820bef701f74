"""The echo as nameko has it, with nothing of ours: `nameko run bench.parts.stock_service`."""

from __future__ import annotations

from nameko.rpc import rpc


class StockService:
    """Answers with what it was asked."""

    name = "stock"

    @rpc  # type: ignore[untyped-decorator]
    def echo(self, text: str) -> dict[str, str]:
        return {"text": text}

"""What one writes first: httpx's client, a task for each operation, a semaphore."""

import asyncio
import csv
import sys

import httpx

IN_FLIGHT = 64


async def main(manifest: str, base_url: str) -> None:
    """Send every row, and count what was accepted."""
    with open(manifest, encoding="utf-8", newline="") as file:  # noqa: ASYNC230, PTH123 - as one writes it
        rows = list(csv.DictReader(file))
    slots = asyncio.Semaphore(IN_FLIGHT)
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(headers={"Authorization": "Bearer token"}, limits=limits) as client:

        async def send(row: dict[str, str]) -> bool:
            url = f"{base_url}/inventory_device_serial_operation/{row['serial_number']}/"
            async with slots:
                reply = await client.put(url, json={"operation": row["operation"]})
            return reply.json()["operation"] == row["operation"]

        accepted = sum(await asyncio.gather(*map(send, rows)))
    print(accepted)


asyncio.run(main(*sys.argv[1:]))

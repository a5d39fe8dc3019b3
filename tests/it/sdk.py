# Asks as people ask: OpenAI's own SDK, with its retries. Arguments: base URL, then NAME=KEY=MAX_TOKENS for each request.
# One JSON object a line: what the SDK made of the answer, and after how many attempts.
import json
import sys
import time

import httpx
import openai

base_url, *requests = sys.argv[1:]

for name, key, max_tokens in (request.split("=") for request in requests):
    attempts = []
    hooks = {"request": [lambda request: attempts.append(time.monotonic())]}
    client = openai.OpenAI(
        base_url=base_url, api_key=key, max_retries=2, http_client=httpx.Client(event_hooks=hooks), timeout=20
    )
    told = {"name": name}
    try:
        answer = client.chat.completions.create(
            model="gpt-oss-120b", max_tokens=int(max_tokens), messages=[{"role": "user", "content": "Hello"}]
        )
        told["content"] = answer.choices[0].message.content
    except openai.APIStatusError as error:
        told["error"] = type(error).__name__
        told["status"] = error.status_code
        told["code"] = error.code
        told["message"] = error.message
    told["attempts"] = len(attempts)
    told["waited_s"] = attempts[-1] - attempts[0]
    print(json.dumps(told), flush=True)

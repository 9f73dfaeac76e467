"""A sidecar for one measurement, and what it and the driver say of memory."""

import json
import subprocess
import urllib.error
import urllib.request

# To unload an idle model at once.
NOW = 0


class Sidecar:
    """Runs while it is in a `with`. `device` is `cuda` or `cpu`; `slots`, `context` and `memory` are the engine's."""

    def __init__(self, args, folder, environment, device="cuda", slots=8, context=1024, memory="auto"):
        self.args = args
        self.environment = environment
        self.file = folder / f"{device}-{slots}-{context}.json"
        on_cuda = device == "cuda"
        engine = {
            "model": str((args.model if on_cuda else args.reference).resolve()), "name": "m", "slots": slots,
            "device": f"cuda:{args.device}" if on_cuda else "cpu", "context": context, "memory": memory,
            "keep_alive": -1,
        }
        # JSON is YAML.
        self.file.write_text(json.dumps({
            "listen": {"data": "127.0.0.1:0", "admin": "127.0.0.1:0"},
            "runtime": {"onnxruntime": str(args.runtime.resolve())}, "log": {"level": "error"},
            "upstreams": {"local": {"engine": engine}},
            "routes": [{"name": "default", "upstream": "local", "policy": "off", "mode": "off"}],
        }))

    def __enter__(self):
        command = [str(self.args.plimsoll), "serve", "--config", str(self.file)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=self.environment, text=True)
        urls = []
        for line in self.process.stdout:
            urls += [word.removesuffix("/v1").rstrip("/") for word in line.split() if word.startswith("http://")]
            if len(urls) == 2:
                self.data, self.admin = urls
                return self
        raise RuntimeError(f"plimsoll ended with {self.process.wait()} before it served")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def open(self, url, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
        try:
            return urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.code}: {error.read().decode()[:200]}") from error

    def ask(self, url, body=None):
        with self.open(url, body) as answer:
            return json.load(answer)

    def request(self, prompt, tokens, **more):
        return {"model": "m", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                "return_token_ids": True, **more}

    def complete(self, prompt, tokens, **more):
        """The answer's token ids, and its usage."""
        answer = self.ask(f"{self.data}/v1/completions", self.request(prompt, tokens, **more))
        return answer["choices"][0]["token_ids"], answer["usage"]

    def stream(self, prompt, tokens):
        """An answer that is read as it comes; closing it leaves."""
        return self.open(f"{self.data}/v1/completions", self.request(prompt, tokens, stream=True))

    def engine(self):
        return self.ask(f"{self.admin}/state")["upstreams"]["local"]


def used(device):
    """Bytes that are in use on the device, by the driver."""
    command = ["nvidia-smi", f"--id={device}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]) << 20

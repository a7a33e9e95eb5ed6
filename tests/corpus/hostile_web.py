"""A web server that means harm, as a process of its own: prints its port and serves until it is ended."""

import http.server
from urllib.parse import unquote


class Hostile(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name, _, argument = self.path.partition("?")
        getattr(self, f"_{name.strip('/')}")(unquote(argument))

    def _to(self, target: str) -> None:
        """Redirect."""
        self.send_response(302)
        self.send_header("Location", target)
        self.end_headers()

    def _loop(self, _: str) -> None:
        self._to("/loop")

    def _text(self, _: str) -> None:
        self._headers(6)
        self.wfile.write(b"a dog\n")

    def _announces(self, size: str) -> None:
        self._headers(size)

    def _endless(self, _: str) -> None:
        """Send without ever announcing a length or coming to an end."""
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"a dog\n" * 10_000)
        except OSError:
            self.close_connection = True

    def _headers(self, size: object) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    print(server.server_port, flush=True)
    server.serve_forever()

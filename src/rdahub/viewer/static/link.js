// The socket to the viewer's server: messages in, wishes out; it connects again for ever.
// A message: uint32 length of the JSON head, the head, then float32 columns.

export class Link {
  constructor(onMessage, onState) {
    this.onMessage = onMessage;
    this.onState = onState;
    this.view = null;
    this.connect();
  }

  connect() {
    const token = new URLSearchParams(location.search).get("token");
    const address = new URL("socket", location.href.replace(/^http/, "ws"));
    address.search = token === null ? "" : `?token=${encodeURIComponent(token)}`;
    address.hash = "";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.onState(true);
      if (this.view) this.send({ view: this.view });
    };
    socket.onmessage = ({ data }) => {
      const length = new DataView(data).getUint32(0, true);
      const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
      this.onMessage(head, new Float32Array(data, 4 + length));
    };
    socket.onclose = () => {
      this.onState(false);
      setTimeout(() => this.connect(), 1000);
    };
    this.socket = socket;
  }

  send(said) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(said));
  }

  show(view) {
    this.view = view;
    this.send({ view });
  }

  drawn(number) {
    this.send({ drawn: number });
  }
}

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Holds what must not outlive a command: temporary files, a server, output that is not whole.
 *
 * A signal ends a process without regard to its `using` declarations. So it is caught, what is held
 * is disposed of, and the signal is sent again. It is seen when the event loop is: whoever holds
 * something lets that run now and then.
 */
export class HeldUntilSignal implements Disposable {
  readonly #stack = new DisposableStack();
  readonly #end = (signal: NodeJS.Signals) => {
    this[Symbol.dispose]();
    process.kill(process.pid, signal);
  };

  constructor() {
    for (const signal of signals) process.on(signal, this.#end);
  }

  use<Resource extends Disposable>(resource: Resource): Resource {
    return this.#stack.use(resource);
  }

  [Symbol.dispose](): void {
    for (const signal of signals) process.off(signal, this.#end);
    this.#stack.dispose();
  }
}

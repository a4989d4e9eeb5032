/**
 * A process that ends with this program, however that ends, until it is let go.
 *
 * HOW. It is started by a shell that becomes it (`exec`), and leaves a second shell behind, which reads from
 * a pipe that only this program can write to. A line in it says that all is well. If the pipe just ends, so
 * did whoever held it: the process is killed.
 *
 * WHY a shell: it is on every system that the servers run on. A process group would have to be
 * killed by somebody, and to be told of a parent's death is Linux alone.
 */
import { type ChildProcess, spawn } from "node:child_process";

export type WatchedProcess = {
  readonly child: ChildProcess;
  /** From now on it lives on its own. */
  readonly release: () => void;
};

const script = `folder=$1; shift
( read -r line <&3 || { kill -9 $$; [ -z "$folder" ] || rm -rf "$folder"; } ) >/dev/null 2>&1 &
exec 3<&-
exec "$@"`;

export function spawnWatched(
  program: string,
  args: readonly string[],
  options: {
    readonly cwd: string;
    /** A folder that is removed where the process had to be killed. */
    readonly removes?: string;
  },
): WatchedProcess {
  const { cwd, removes = "" } = options;
  const child = spawn("sh", ["-c", script, "sh", removes, program, ...args], {
    cwd,
    stdio: ["ignore", "pipe", "pipe", "pipe"],
  });
  const pipe = child.stdio[3];
  // Who reads from it may be gone.
  pipe?.on("error", () => {});
  const release = () => {
    if (pipe && "end" in pipe) pipe.end("\n");
  };
  return { child, release };
}

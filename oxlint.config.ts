import { readdirSync, readFileSync } from "node:fs";
import { defineConfig } from "oxlint";

type Layer = { local: string[]; npm: string[]; pure?: true };

/** The architecture as data: what each folder may import. Whatever is not listed is forbidden. */
const layers: Record<string, Layer> = {
  base: { local: [], npm: [] },
  codec: { local: ["base"], npm: [], pure: true },
  engine: { local: ["base", "codec"], npm: [], pure: true },
  log: { local: ["base", "codec"], npm: [] },
  link: { local: ["base", "codec"], npm: [] },
  server: { local: ["base", "codec", "engine", "log", "link"], npm: [] },
  record: { local: ["base", "codec", "log", "link"], npm: [] },
  store: { local: ["base"], npm: ["@aws-sdk/client-s3"] },
  archive: { local: ["base", "codec", "log", "store"], npm: ["zod"] },
  recovery: { local: ["base", "codec", "engine", "log", "link", "archive"], npm: [] },
  daemon: {
    local: [
      "base",
      "codec",
      "engine",
      "log",
      "link",
      "server",
      "record",
      "store",
      "archive",
      "recovery",
    ],
    npm: [
      "@hono/node-server",
      "@hono/zod-openapi",
      "croner",
      "hono",
      "pino",
      "prom-client",
      "yaml",
      "zod",
    ],
  },
  cli: {
    local: [
      "base",
      "codec",
      "log",
      "link",
      "server",
      "record",
      "store",
      "archive",
      "recovery",
      "daemon",
    ],
    npm: ["commander", "hono"],
  },
};

const io = [
  "child_process",
  "dgram",
  "dns",
  "fs",
  "http",
  "http2",
  "https",
  "net",
  "os",
  "perf_hooks",
  "timers",
  "tls",
].flatMap((name) => [`node:${name}`, `node:${name}/*`]);
const takeRandom = { object: "Math", property: "random", message: "Take a Random." };
const nodeTest = { from: "package" as const, package: "node:test", name: ["test", "suite"] };
const at = (path: string) => new URL(path, import.meta.url);
const entries = readdirSync(at("src"), { withFileTypes: true });
const folders = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
const packages = Object.keys(JSON.parse(readFileSync(at("package.json"), "utf8")).dependencies);

function fence(folder: string) {
  const layer = layers[folder];
  if (!layer) throw new Error(`Give src/${folder} a place in oxlint.config.ts`);
  const closed = folders.filter((other) => other !== folder && !layer.local.includes(other));
  const patterns = [
    ...(closed.length === 0
      ? []
      : [
          {
            regex: `^(\\.\\./)+(${closed.join("|")})/`,
            message: `src/${folder} may import only ${layer.local.join(", ") || "itself"}.`,
          },
        ]),
    ...packages
      .filter((name) => !layer.npm.includes(name))
      .map((name) => ({ group: [name, `${name}/*`], message: `src/${folder} may not use it.` })),
    ...(layer.pure ? [{ group: io, message: `src/${folder} does no I/O.` }] : []),
  ];
  // Tests may read fixtures and use development dependencies; the rooms they test stay fenced.
  return {
    files: [`src/${folder}/**`],
    excludeFiles: [`src/${folder}/**/*.test.ts`],
    rules: {
      "no-restricted-imports": ["error", { patterns }] as ["error", { patterns: typeof patterns }],
    },
  };
}

/** The package's entries name what is public, and define nothing themselves. */
const entryFence = {
  files: ["src/*.ts"],
  rules: {
    "no-restricted-imports": ["error", { patterns: [{ regex: "^[^.]" }] }] as [
      "error",
      { patterns: { regex: string }[] },
    ],
  },
};

export default defineConfig({
  plugins: ["typescript", "import", "unicorn", "oxc"],
  categories: { correctness: "error" },
  options: { typeAware: true },
  ignorePatterns: ["dist", ".cache", "test/fixtures"],
  overrides: [
    ...folders.map(fence),
    { files: ["*.config.ts"], rules: { "import/no-default-export": "off" } },
    entryFence,
    { files: ["src/cli/**", "bench/**", "scripts/**", "test/**"], rules: { "no-console": "off" } },
    {
      files: ["bench/**", "scripts/**", "test/**"],
      rules: { "no-restricted-properties": ["error", takeRandom] },
    },
  ],
  rules: {
    "import/no-cycle": "error",
    "import/no-default-export": "error",
    "oxc/no-barrel-file": "error",
    "no-console": "error",
    "no-restricted-properties": [
      "error",
      { object: "Date", property: "now", message: "Take a Clock." },
      takeRandom,
    ],
    "typescript/no-floating-promises": [
      "error",
      { ignoreVoid: false, allowForKnownSafeCalls: [nodeTest] },
    ],
    "typescript/no-misused-promises": "error",
    "typescript/no-non-null-assertion": "error",
    "typescript/only-throw-error": "error",
    "typescript/switch-exhaustiveness-check": [
      "error",
      { considerDefaultExhaustiveForUnions: true },
    ],
    // A spread keeps what belongs together on one line, where the formatter would take a line each.
    "unicorn/no-useless-spread": "off",
    "unicorn/prefer-node-protocol": "error",
  },
});

/**
 * An example of every write command that a server knows.
 *
 * WHY. A recorder passes on what it does not know, so what it gets wrong is the command that nobody
 * thought of: one that carries a relative time, selects a database, or is streamed as another one. So
 * the servers say which commands write (COMMAND), and a test fails where one has no example here.
 *
 * FORMAT of an example: commands, " ; " between them. The last one is the example, those before it
 * make it change something. Words are split at spaces, and
 *
 *   $a $b $c   keys of this run alone       %port   where a second server listens, for MIGRATE
 *   @2         the reply to command 2       %code   a function library named $a with one function $a
 *   ""         an empty argument                     that calls its arguments as a command
 *
 * One name may have several examples; those of a later version are in a table of their own.
 */
import type { ServerId } from "../support/servers.ts";

export type Example = {
  /** As COMMAND says it: lower case but for modules, "|" before a subcommand. */
  readonly name: string;
  readonly text: string;
};

type Examples = Readonly<Record<string, string | readonly string[]>>;

const consumed =
  "XGROUP CREATE $a g 0 MKSTREAM ; XADD $a 1-1 f v ; XADD $a 1-2 f v ; XREADGROUP GROUP g c STREAMS $a >";
const dumped = "RPUSH $a 1 x 3 ; DUMP $a";
const places = "GEOADD $a 13.361389 38.115556 p 15.087269 37.502669 c";

const everywhere: Examples = {
  append: "SET $a v ; APPEND $a w",
  bitfield: "BITFIELD $a SET u8 0 200 OVERFLOW SAT INCRBY u8 0 100 INCRBY i5 100 1",
  bitop: ["SET $a abc ; SET $b bcd ; BITOP AND $c $a $b", "SET $a abc ; BITOP NOT $b $a"],
  blpop: "RPUSH $a 1 2 ; BLPOP $b $a 20",
  brpop: "RPUSH $a 1 ; BRPOP $a 20",
  brpoplpush: "RPUSH $a 1 2 ; BRPOPLPUSH $a $b 20",
  bzpopmax: "ZADD $a 1 x 2 y ; BZPOPMAX $a 20",
  bzpopmin: "ZADD $a 1 x 2 y ; BZPOPMIN $b $a 20",
  decr: "DECR $a",
  decrby: "DECRBY $a 9000000000",
  del: ["SET $a v ; DEL $a", "SET $a v ; LPUSH $b 1 ; DEL $a $b $c"],
  eval: "EVAL redis.call('SET',KEYS[1],ARGV[1]);redis.call('EXPIRE',KEYS[1],5000) 1 $a v",
  evalsha: "SCRIPT LOAD return(redis.call('INCRBYFLOAT',KEYS[1],'0.1')) ; EVALSHA @1 1 $a",
  expire: ["SET $a v ; EXPIRE $a 1000000", "RPUSH $a v ; EXPIRE $a -1"],
  expireat: ["SET $a v ; EXPIREAT $a 4000000000", "SET $a v ; EXPIREAT $a 1000"],
  flushall: ["SET $a v ; FLUSHALL", "SET $a v ; FLUSHALL ASYNC"],
  flushdb: ["SET $a v ; FLUSHDB", "SET $a v ; FLUSHDB ASYNC"],
  geoadd: places,
  georadius: [
    `${places} ; GEORADIUS $a 15 37 200 km STORE $b`,
    `${places} ; GEORADIUS $a 15 37 200 km STOREDIST $b`,
  ],
  georadiusbymember: `${places} ; GEORADIUSBYMEMBER $a p 200 km STORE $b`,
  getset: "SET $a v EX 1000000 ; GETSET $a w",
  hdel: ["HSET $a f v g w ; HDEL $a f h", "HSET $a f v ; HDEL $a f"],
  hincrby: "HSET $a f 5 ; HINCRBY $a f -7",
  hincrbyfloat: "HSET $a f 5 ; HINCRBYFLOAT $a f 0.1",
  hmset: "HMSET $a f v g w",
  hset: "HSET $a f v g w",
  hsetnx: "HSETNX $a f v",
  incr: "SET $a 41 EX 1000000 ; INCR $a",
  incrby: "INCRBY $a 9000000000000000000",
  incrbyfloat: ["SET $a 3.0e3 ; INCRBYFLOAT $a 200", "INCRBYFLOAT $a 0.1"],
  linsert: "RPUSH $a 1 3 ; LINSERT $a BEFORE 3 2",
  lpop: ["RPUSH $a 1 2 ; LPOP $a", "RPUSH $a 1 ; LPOP $a"],
  lpush: "LPUSH $a 1 x 3",
  lpushx: "RPUSH $a 1 ; LPUSHX $a 0",
  lrem: "RPUSH $a 1 2 1 ; LREM $a -1 1",
  lset: "RPUSH $a 1 2 ; LSET $a -1 x",
  ltrim: ["RPUSH $a 1 2 3 ; LTRIM $a 1 1", "RPUSH $a 1 2 3 ; LTRIM $a 5 9"],
  migrate: [
    "SET $a v ; MIGRATE 127.0.0.1 %port $a 0 20000 REPLACE",
    'SET $a v ; SADD $b 1 ; MIGRATE 127.0.0.1 %port "" 0 20000 REPLACE KEYS $a $b',
  ],
  move: "SET $a v ; MOVE $a 9",
  mset: "MSET $a 1 $b 2 $c 3",
  msetnx: "MSETNX $a 1 $b 2",
  persist: "SET $a v EX 1000000 ; PERSIST $a",
  pexpire: ["SET $a v ; PEXPIRE $a 1000000000", "SET $a v ; PEXPIRE $a 0"],
  pexpireat: "SET $a v ; PEXPIREAT $a 4000000000001",
  pfadd: "PFADD $a x y z",
  pfcount: "PFADD $a x y z ; PFCOUNT $a",
  pfdebug: "PFADD $a x ; PFDEBUG TODENSE $a",
  pfmerge: "PFADD $a x ; PFADD $b y ; PFMERGE $c $a $b",
  psetex: "PSETEX $a 1000000000 v",
  publish: "PUBLISH $a v",
  rename: "SET $a v EX 1000000 ; SET $b w ; RENAME $a $b",
  renamenx: "RPUSH $a v ; RENAMENX $a $b",
  restore: [
    `${dumped} ; RESTORE $b 0 @2`,
    `${dumped} ; RESTORE $a 1000000000 @2 REPLACE`,
    `${dumped} ; RESTORE $b 4000000000001 @2 ABSTTL FREQ 9`,
    `${dumped} ; RESTORE $b 1000000000 @2 IDLETIME 9`,
  ],
  "restore-asking": `${dumped} ; RESTORE-ASKING $b 1000000000 @2`,
  rpop: "RPUSH $a 1 2 ; RPOP $a",
  rpoplpush: ["RPUSH $a 1 2 ; RPOPLPUSH $a $b", "RPUSH $a 1 2 ; RPOPLPUSH $a $a"],
  rpush: "RPUSH $a 1 x 3",
  rpushx: "RPUSH $a 1 ; RPUSHX $a 2",
  sadd: ["SADD $a 1 2 3", "SADD $a 1 x"],
  script: ["SCRIPT LOAD return('$a')", "SCRIPT FLUSH"],
  sdiffstore: "SADD $a 1 2 ; SADD $b 2 ; SDIFFSTORE $c $a $b",
  select: "SELECT 5",
  set: [
    "SET $a v",
    "SET $a v ; SET $a w XX EX 1000000",
    "SET $a w NX PX 1000000001",
    "SET $a v EX 1000000 ; SET $a w KEEPTTL",
  ],
  setbit: "SETBIT $a 77 1",
  setex: "SETEX $a 1000000 v",
  setnx: "SETNX $a v",
  setrange: "SETRANGE $a 40 v",
  sinterstore: [
    "SADD $a 1 2 ; SADD $b 2 ; SINTERSTORE $c $a $b",
    "SADD $a 1 ; SINTERSTORE $a $a $b",
  ],
  smove: "SADD $a 1 2 ; SMOVE $a $b 2",
  sort: [
    "RPUSH $a 3 1 2 ; SORT $a DESC LIMIT 0 2 STORE $b",
    "SADD $a y x ; SET $bx 2 ; SET $by 1 ; SORT $a BY $b* GET # GET $b* STORE $c",
  ],
  spop: ["SADD $a 1 2 3 ; SPOP $a", "SADD $a 1 2 x y ; SPOP $a 3", "SADD $a 1 2 ; SPOP $a 9"],
  srem: "SADD $a 1 2 ; SREM $a 2 3",
  sunionstore: "SADD $a 1 2 ; SADD $b 3 ; SUNIONSTORE $b $a $b",
  swapdb: ["SET $a v ; SWAPDB 0 1", "SET $a v ; SWAPDB 2 11"],
  unlink: "RPUSH $a v ; UNLINK $a $b",
  xack: `${consumed} ; XACK $a g 1-1`,
  xadd: ["XADD $a * f v", "XADD $a 1-1 f v ; XADD $a MAXLEN 1 2-1 f v", "XADD $a 7-7 f v g w"],
  xclaim: [
    `${consumed} ; XCLAIM $a g d 0 1-1 1-2`,
    `${consumed} ; XCLAIM $a g d 0 1-1 RETRYCOUNT 5 FORCE JUSTID`,
  ],
  xdel: `${consumed} ; XDEL $a 1-1`,
  xreadgroup: [
    "XADD $a * f v ; XADD $a * f v ; XGROUP CREATE $a g 0 ; XREADGROUP GROUP g c COUNT 1 STREAMS $a >",
    "XGROUP CREATE $a g $ MKSTREAM ; XADD $a 1-1 f v ; XREADGROUP GROUP g c BLOCK 20000 STREAMS $a >",
    "XGROUP CREATE $a g $ MKSTREAM ; XADD $a * f v ; XREADGROUP GROUP g c BLOCK 20000 NOACK STREAMS $a >",
  ],
  xsetid: "XADD $a 1-1 f v ; XSETID $a 5-5",
  xtrim: [`${consumed} ; XTRIM $a MAXLEN 1`, "XADD $a 1-1 f v ; XTRIM $a MAXLEN 0"],
  zadd: ["ZADD $a 1 x 2.5 y -inf z", "ZADD $a 1 x ; ZADD $a XX CH INCR 0.1 x"],
  zincrby: "ZADD $a 1 x ; ZINCRBY $a 0.1 x",
  zinterstore: "ZADD $a 1 x ; ZADD $b 2 x ; ZINTERSTORE $c 2 $a $b WEIGHTS 2 3 AGGREGATE MIN",
  zpopmax: "ZADD $a 1 x 2 y ; ZPOPMAX $a",
  zpopmin: "ZADD $a 1 x 2 y 3 z ; ZPOPMIN $a 2",
  zrem: "ZADD $a 1 x 2 y ; ZREM $a y z",
  zremrangebylex: "ZADD $a 0 x 0 y ; ZREMRANGEBYLEX $a [y +",
  zremrangebyrank: "ZADD $a 1 x 2 y ; ZREMRANGEBYRANK $a 0 0",
  zremrangebyscore: "ZADD $a 1 x 2 y ; ZREMRANGEBYSCORE $a (1 +inf",
  zunionstore: "ZADD $a 1 x ; SADD $b x y ; ZUNIONSTORE $c 2 $a $b",
};

const redis6: Examples = {
  xgroup: [
    "XGROUP CREATE $a g $ MKSTREAM",
    `${consumed} ; XGROUP SETID $a g 1-1`,
    `${consumed} ; XGROUP DELCONSUMER $a g c`,
    `${consumed} ; XGROUP DESTROY $a g`,
  ],
};

/** Redis 7.0 and Valkey. */
const since7: Examples = {
  blmove: "RPUSH $a 1 2 ; BLMOVE $a $b LEFT RIGHT 20",
  blmpop: "RPUSH $a 1 2 3 ; BLMPOP 20 2 $b $a RIGHT COUNT 2",
  bzmpop: "ZADD $a 1 x 2 y ; BZMPOP 20 1 $a MIN COUNT 2",
  copy: ["SET $a v EX 1000000 ; COPY $a $b", "RPUSH $a v ; COPY $a $a DB 9 REPLACE"],
  expire: ["SET $a v ; EXPIRE $a 1000000 NX", "SET $a v EX 1000 ; EXPIRE $a 1000000 GT"],
  fcall: "FUNCTION LOAD %code ; FCALL $a 1 $b HSET $b f v",
  "function|delete": "FUNCTION LOAD %code ; FUNCTION DELETE $a",
  "function|flush": "FUNCTION LOAD %code ; FUNCTION FLUSH",
  "function|load": "FUNCTION LOAD REPLACE %code",
  "function|restore": [
    "FUNCTION LOAD %code ; FUNCTION DUMP ; FUNCTION RESTORE @2 REPLACE",
    "FUNCTION LOAD %code ; FUNCTION DUMP ; FUNCTION RESTORE @2 FLUSH",
  ],
  geosearchstore: `${places} ; GEOSEARCHSTORE $b $a FROMLONLAT 15 37 BYBOX 400 400 km STOREDIST`,
  getdel: "SET $a v ; GETDEL $a",
  getex: [
    "SET $a v ; GETEX $a EX 1000000",
    "SET $a v EX 1000000 ; GETEX $a PERSIST",
    "SET $a v ; GETEX $a PXAT 4000000000001",
  ],
  lmove: "RPUSH $a 1 2 ; LMOVE $a $b RIGHT LEFT",
  lmpop: "RPUSH $a 1 2 3 ; LMPOP 2 $b $a LEFT COUNT 2",
  lpop: "RPUSH $a 1 2 3 ; LPOP $a 2",
  set: [
    "SET $a v ; SET $a w GET",
    "SET $a w EXAT 4000000000 GET",
    "SET $a w PXAT 4000000000001",
    "SET $a v ; SET $a w XX GET KEEPTTL",
  ],
  spublish: "SPUBLISH $a v",
  xadd: [`${consumed} ; XADD $a MINID ~ 1-2 LIMIT 0 2-* f v`, "XADD $a 5-* f v"],
  xautoclaim: [
    `${consumed} ; XAUTOCLAIM $a g d 0 0`,
    `${consumed} ; XDEL $a 1-1 ; XAUTOCLAIM $a g d 0 0 JUSTID`,
  ],
  "xgroup|create": [
    "XGROUP CREATE $a g $ MKSTREAM ENTRIESREAD 3",
    "XADD $a 1-1 f v ; XGROUP CREATE $a g 0",
  ],
  "xgroup|createconsumer": "XGROUP CREATE $a g 0 MKSTREAM ; XGROUP CREATECONSUMER $a g c",
  "xgroup|delconsumer": `${consumed} ; XGROUP DELCONSUMER $a g c`,
  "xgroup|destroy": `${consumed} ; XGROUP DESTROY $a g`,
  "xgroup|setid": `${consumed} ; XGROUP SETID $a g 1-1 ENTRIESREAD 1`,
  xsetid: "XADD $a 1-1 f v ; XSETID $a 5-5 ENTRIESADDED 7 MAXDELETEDID 3-3",
  xtrim: `${consumed} ; XTRIM $a MINID = 1-2`,
  zadd: "ZADD $a 5 x ; ZADD $a GT 7 x 9 y",
  zdiffstore: "ZADD $a 1 x 2 y ; ZADD $b 1 x ; ZDIFFSTORE $c 2 $a $b",
  zmpop: "ZADD $a 1 x 2 y ; ZMPOP 2 $b $a MAX",
  zrangestore: "ZADD $a 1 x 2 y 3 z ; ZRANGESTORE $b $a (1 +inf BYSCORE LIMIT 0 1",
};

/** Fields of hashes that expire: Redis 7.4 and Valkey 9. */
const fieldExpiry: Examples = {
  hexpire: [
    "HSET $a f v g w ; HEXPIRE $a 1000000 FIELDS 1 f",
    "HSET $a f v g w ; HEXPIRE $a 0 FIELDS 1 f",
  ],
  hexpireat: "HSET $a f v ; HEXPIREAT $a 4000000000 NX FIELDS 2 f g",
  hgetdel: ["HSET $a f v g w ; HGETDEL $a FIELDS 1 f", "HSET $a f v ; HGETDEL $a FIELDS 1 f"],
  hgetex: [
    "HSET $a f v g w ; HGETEX $a EX 1000000 FIELDS 1 f",
    "HSET $a f v ; HEXPIRE $a 1000000 FIELDS 1 f ; HGETEX $a PERSIST FIELDS 1 f",
  ],
  hpersist: "HSET $a f v ; HEXPIRE $a 1000000 FIELDS 1 f ; HPERSIST $a FIELDS 1 f",
  hpexpire: "HSET $a f v g w ; HPEXPIRE $a 1000000001 FIELDS 2 f g",
  hpexpireat: "HSET $a f v g w ; HPEXPIREAT $a 4000000000001 FIELDS 1 g",
  hsetex: [
    "HSETEX $a EX 1000000 FIELDS 2 f v g w",
    "HSET $a f v ; HSETEX $a FXX PXAT 4000000000001 FIELDS 1 f w",
  ],
};

const redis8: Examples = {
  VADD: ["VADD $a VALUES 3 1 0 0.5 x", "VADD $a REDUCE 2 VALUES 4 1 2 3 4 x Q8 EF 100"],
  VREM: "VADD $a VALUES 3 1 0 0.5 x ; VADD $a VALUES 3 0 1 0.5 y ; VREM $a x",
  VSETATTR: 'VADD $a VALUES 3 1 0 0.5 x ; VSETATTR $a x {"f":1}',
};

/** Valkey 8.1 and 9. */
const valkey: Examples = { set: "SET $a v ; SET $a w IFEQ v" };

const valkey9: Examples = {
  delifeq: "SET $a v ; DELIFEQ $a v",
  msetex: ["MSETEX 2 $a 1 $b 2 EX 1000000", "MSETEX 1 $a 1 NX PXAT 4000000000001"],
};

/** Commands that write, and cannot be shown on a server of their own. */
export const withoutExample: Readonly<Record<string, string>> = {
  "cluster|flushslot": "only in a cluster",
};

/** What passes through the stream, or makes something there, and changes no data. */
export const dataless: ReadonlySet<string> = new Set(["publish", "spublish", "script", "select"]);

/** What waits for data: the command before the last one gives it. */
export const blocking: ReadonlySet<string> = new Set(
  "blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin xreadgroup".split(" "),
);

const tables: readonly (readonly [Examples, readonly ServerId[]])[] = [
  [everywhere, ["redis-6.0", "redis-7.0", "redis-8.0", "valkey-8.1", "valkey-9"]],
  [redis6, ["redis-6.0"]],
  [since7, ["redis-7.0", "redis-8.0", "valkey-8.1", "valkey-9"]],
  [fieldExpiry, ["redis-8.0", "valkey-9"]],
  [redis8, ["redis-8.0"]],
  [valkey, ["valkey-8.1", "valkey-9"]],
  [valkey9, ["valkey-9"]],
];

/** All examples that this server has to take. */
export function examplesFor(id: ServerId): Example[] {
  return tables
    .filter(([, ids]) => ids.includes(id))
    .flatMap(([table]) => Object.entries(table))
    .flatMap(([name, texts]) => [texts].flat().map((text): Example => ({ name, text })));
}

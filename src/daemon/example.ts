/** What `tidemark init --example` prints: every setting with its default, and what it is for. */
export function exampleConfig(repository: string): string {
  return `# Tidemark: what is recorded, where its history is kept, and for how long.
# \`tidemark up\` runs it. Paths are relative to this file. No secret stands in it: passwords and keys
# are given as {file: PATH}, {command: LINE} or {env: NAME}.

repositories:
  main:
    address: ${JSON.stringify(repository)}   # a folder, or s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path-style=true
    # level: 3                   # of zstd, 1 to 19
    # encryption:                # snapshots and logs are encrypted before they leave this machine; plain stay
    #                            # names, times, sizes, notes, addresses of sources, numbers of keys, sums of snapshots
    #   id: key-2026             # stands in each object, to tell which key it takes
    #   key: {file: /etc/tidemark/key}   # 32 bytes as 64 hexadecimal digits: openssl rand -hex 32
    #   older:                   # keys that older objects take
    #     - {id: key-2025, key: {file: /etc/tidemark/key-2025}}

instances:
  db1:
    source: redis://localhost:6379   # redis:// rediss:// unix:// sentinel:// cluster://
    # user: tidemark             # \`tidemark record --print-acl\` prints what it has to be allowed
    # password: {file: /etc/tidemark/db1.password}
    # tls:                       # of rediss://
    #   ca: /etc/tidemark/ca.pem
    #   cert: /etc/tidemark/client.pem
    #   key: /etc/tidemark/client.key
    #   server_name: db1.example.com
    # follow: replica            # or master: replicas are followed where there are any
    # fsync: everysec            # always, everysec or no
    # spool: spool/db1           # the local log; a disk that survives the process
    # segment_size: 128MB
    # segment_age: 1h
    # repository: main           # needed where there are several
    # archive_interval: 10s      # losing this machine loses at most so much
    # log_window: 7d             # every moment of it can be restored
    # backup:
    #   enabled: true
    #   days: daily              # or [monday, thursday]
    #   time: "03:00"
    #   time_zone: Europe/Prague # this machine's, where it is not given
    #   jitter: 30m              # each instance begins at its own share of it
    #   retention_days: 7        # 7 to 730
    #   allow_any_retention: false
    #   keep_last: 3             # sets that are kept beyond retention_days: the newest ones,
    #   keep_daily: 7            # one for each of so many days, weeks, months
    #   keep_weekly: 4
    #   keep_monthly: 12

  # shop:
  #   source: cluster://c1:6379,c2:6379   # some of the nodes: all shards are found, also new ones
  #   # All settings as above, for each shard. Its shards are archived as shop.KEY; shop means all of them.
`;
}

"""Each field of each message, and of the values in it, with what bounds it, and the function that looks at it before it is used.

``Class.field   module:function   what must hold``; modules are in ``sparkps``. Settings, initializers and optimizers check themselves when
they are made (`CHECK_THEMSELVES`), and so have no lines. `test_field_checks` holds this table against the messages, and sends hostile
values in each of these fields through the receivers.
"""

from __future__ import annotations

TABLE = """
Hello.session             ps_nodes.service:Service._take                    from 1; names an entry of a dict
Hello.seq                 ps_nodes.sessions:NodeSession.acknowledge         raises what is acknowledged, of this session alone
Hello.tier_id             ps_nodes.service:Service._take                    that of the node, or none
Bye.session               ps_nodes.sessions:SessionTable.close              names an entry; the last MOST_CLOSED are remembered
Bye.seq                   ps_nodes.service:Service._take                    not used

Step.epoch                ps_nodes.handlers.requests:run                    that of the node's placement
Step.ops                  ps_nodes.tables.operations:targets_of             1 to MOST_OPS, all pulls or all writes, with their arrays
Step.member               wire.fences:Fences.rank                           see Member
Step.call                 ps_nodes.work:Work.stamp                          from 1 of a write; compared with marks of this session alone
Op.code                   ps_nodes.tables.operations:_target                one of OpCode
Op.table                  ps_nodes.tables.directory:Tables.table            a table that is there
Op.keyset                 ps_nodes.tables.sparse_target:SparseTarget.of     a key set of this session
Op.start                  ps_nodes.tables.dense_target:DenseTarget.of       0 <= start < stop <= 256; of a key set, a chunk that is there
Op.stop                   ps_nodes.tables.dense_target:DenseTarget.of       0 <= start < stop <= 256
Op.encoding               ps_nodes.tables.operations:check_encoding         one of Encoding, that the table and the operation allow
Member.group              ps_nodes.state:ServerState.group                  a group that is open
Member.rank               wire.fences:Fences.rank                           0 to num_ranks - 1
Member.incarnation        wire.fences:Fences.rank                           the one that has the rank; at most 2**62
Member.clock              wire.fences:Fences.rank                           -1 to MAX_CLOCK - 1, above the last tick
Member.ordinal            wire.fences:Fences.rank                           0 to 2**20 - 1
Register.epoch            ps_nodes.handlers.requests:run                    that of the node's placement
Register.index            ps_nodes.tables.directory:Tables.index            an index that is there
Register.keyset           ps_nodes.state:ServerState.check_kept             names an entry; all of a session's together are bounded
Register.start            ps_nodes.handlers.keysets:register                0 <= start <= start + n <= total
Register.total            ps_nodes.handlers.keysets:register                0 <= start <= start + n <= total
Unregister.keyset         ps_nodes.sessions:NodeSession.forget_keyset       names an entry
Call.epoch                ps_nodes.handlers.requests:run                    that of the node's placement
Call.calls                ps_nodes.functions:prepare                        at most MAX_CALLS, answers within MAX_ANSWER_BYTES
Call.member               wire.fences:Fences.rank                           see Member
Call.call                 ps_nodes.work:Work.stamp                          from 1 of what writes
Call.limit                ps_nodes.handlers.calls:_call_user                cut to [0, LONGEST_CALL]; NaN counts as 0
Call.buckets              ps_nodes.handlers.calls:_buckets                  buckets that the node leads; further bytes are not read
FunctionCall.function     ps_nodes.functions:_checked                       a function that is there
FunctionCall.tables       wire.functions:check                              as many as the function takes, at most MAX_TABLES, all there
FunctionCall.args         wire.functions:check                              names, types and bounds of each argument
Tick.member               wire.fences:Fences.rank                           see Member
Tick.state                ps_nodes.service:Service.receive                  within maxMessageBytes; one is kept for a rank
Tick.finish               wire.clock:GroupClock.tick                        a bool
Tick.epoch                ps_nodes.handlers.requests:run                    that of the node's placement
Takeover.member           wire.fences:Fences.take                           see Member
Takeover.epoch            ps_nodes.handlers.requests:run                    that of the node's placement
Settle.member             wire.fences:Fences.holder                         see Member; a clock not below the last tick
Settle.state              ps_nodes.service:Service.receive                  within maxMessageBytes; one is kept for a rank
Settle.epoch              ps_nodes.handlers.requests:run                    that of the node's placement
Export.epoch              ps_nodes.handlers.requests:run                    that of the node's placement
Export.table              ps_nodes.tables.directory:Tables.table            a table that is there
Export.bucket             ps_nodes.handlers.figures:export                  0 to 255, and one that the node leads
Export.start              ps_nodes.tables.directory:Tables.export           from 0; beyond the end there is nothing
Export.limit              ps_nodes.tables.directory:Tables.export           from 1; cut at the end of the bucket

Ready.node                client.transport:Transport._handle                not used
Ready.epoch               client.transport:Transport._handle                not used
Ready.seq                 client.transport:Transport._handle                not used
Done.seq                  client.inflight:Lane.take                         a request that is under way
Failed.seq                client.inflight:Lane.take                         a request that is under way
Failed.error              errors:from_wire                                  a class of sparkps.errors; any other is a TierError
Failed.message            errors:from_wire                                  text
Failed.attributes         errors:from_wire                                  plain values, read by name
WrongEpoch.seq            client.inflight:Lane.take                         a request that is under way
WrongEpoch.epoch          client.links:Links._learn                         above the newest that is known
WrongEpoch.placement      wire.placement:check_placement                    256 rows of different ids
Placed.epoch              client.links:Links._placed                        not below the newest that is known
Placed.placement          wire.placement:check_placement                    256 rows of ids that are among its nodes
Placed.nodes              client.links:Links._take_in_placement             see NodeInfo
UnknownKeySet.seq         client.inflight:Lane.take                         a request that is under way
UnknownKeySet.keyset      client.session:Session._step                      names an entry of the session's key sets
AnotherTier.tier_id       client.transport:Transport._handle                for the words of an error
UnknownSession.seq        client.transport:Transport._handle                a request that is under way
Parked.seq                client.inflight:Lane.park                         a request that is under way
Parked.clock              client.inflight:Lane.park                         for the words of an error
Parked.waiting_for        client.inflight:Lane.park                         for the words of an error
TakenOver.seq             client.inflight:Lane.take                         a request that is under way
TakenOver.clock           client.session:_possible                          -1 to MAX_CLOCK - 1
TakenOver.state           client.session:Session.takeover                   bytes, given to the worker's function
TakenOver.finished        client.session:Session.takeover                   a bool
TakenOver.staleness       client.session:_possible                          -1 to STALENESS_LIMIT - 1
StatusReport.seq          client.inflight:Lane.take                         a request that is under way
StatusReport.report       client.session:Session.node_reports               plain values; without `node` an error
NodeInfo.node             wire.placement:check_placement                    names an entry; placements name known ones alone
NodeInfo.endpoint         driver_bridge.coordinator.node_registry:_check_hello  text of 1 to LONGEST_ENDPOINT characters without NUL
NodeInfo.host             driver_bridge.coordinator.node_registry:_check_hello  text of 1 to LONGEST_HOST characters without NUL
NodeInfo.pid              driver_bridge.coordinator.node_registry:_check_hello  0 to 2**31 - 1
NodeInfo.state            client.links:Links._take_in_placement             "up", or the node is gone
NodeInfo.reason           client.links:Links._take_in_placement             for the words of an error
NodeInfo.job              driver_bridge.coordinator.node_registry:_check_hello  -1 to 2**31 - 1
NodeInfo.attempt          driver_bridge.coordinator.node_registry:_check_hello  -1 to 2**63 - 1

Shipped.node              ps_nodes.service:Service.hear_node                the node of that connection
Shipped.generation        ps_nodes.replication.copies:Copies.acknowledged   that of the log
Shipped.seq               ps_nodes.replication.sent_log:SentLog.acknowledge cut to what was sent
Shipped.full              ps_nodes.memory_budget:MemoryBudget.hear          a bool
NotShipped.epoch          ps_nodes.service:Service.hear_node                above the node's own
NotKept.node              ps_nodes.service:Service.hear_node                the node of that connection
NotKept.generation        ps_nodes.replication.copies:Copies.not_kept       that of the log
ShipWrite.ops             ps_nodes.replication.entries:_targets             each as of a Step, on buckets that are copied
ShipWrite.buckets         ps_nodes.replication.entries:_targets             as many as operations; those that are copied count
ShipWrite.writer          wire.marks:SessionMarks.take                      compared with marks of that writer alone
ShipWrite.stamp           wire.marks:SessionMarks.take                      compared with marks of that writer alone
ShipWrite.member          wire.fences:Fences.rank                           see Member
ShipCall.calls            ps_nodes.functions:prepare                        as of a Call
ShipCall.buckets          ps_nodes.replication.entries:_call                those that are copied count
ShipCall.writer           wire.marks:SessionMarks.take                      compared with marks of that writer alone
ShipCall.stamp            wire.marks:SessionMarks.take                      compared with marks of that writer alone
ShipCall.member           wire.fences:Fences.rank                           see Member
ShipHold.hold             ps_nodes.replication.entries:_hold                a new number, at most MOST_HOLDS at a time
ShipHold.orders           ps_nodes.replication.entries:_hold                names of shards in buckets that are copied
ShipHold.buckets          ps_nodes.replication.entries:_hold                those that are copied count
ShipRows.hold             ps_nodes.replication.entries:_rows                a function that has its turn
ShipRows.changes          ps_nodes.shard_copies:checked_rows                two arrays each; slots that are there, in copied buckets
ShipRows.writer           wire.marks:SessionMarks.take                      compared with marks of that writer alone
ShipRows.stamp            wire.marks:SessionMarks.take                      compared with marks of that writer alone
ShipRows.buckets          ps_nodes.replication.entries:_brought             those that are copied count
ShipRows.table            wire.marks:SessionMarks.take                      names an entry of a writer's marks
ShipClose.group           ps_nodes.replication.follower:Follower.group      a group that the node knows
ShipClose.clock           ps_nodes.replication.replica_group:ReplicaGroup.close  a clock of which something is buffered, or nothing is done
ShipClose.buckets         ps_nodes.replication.entries:_close               those that are copied count
ShipTick.member           wire.fences:Fences.rank                           see Member
ShipTick.state            ps_nodes.service:Service.receive                  within maxMessageBytes
ShipTick.finish           wire.clock:GroupClock.tick                        a bool
ShipTakeover.member       wire.fences:Fences.take                           see Member
ShipSettle.member         wire.fences:Fences.holder                         see Member
ShipSettle.state          ps_nodes.service:Service.receive                  within maxMessageBytes
ShipForget.writer         wire.marks:SessionMarks.forget                    names an entry
ShipEnd.group             ps_nodes.replication.follower:Follower.end_group  names an entry; only groups that the node knows are noted
ShipEnd.failed            ps_nodes.replication.follower:Follower.end_group  a bool
ShipGiven.buckets         ps_nodes.replication.entries:_given               those that are copied count
ShipBucket.bucket         ps_nodes.replication.follower:Follower.check_source  one that the sender leads
ShipBucket.epoch          ps_nodes.replication.snapshots:adopt              that of the node's placement
ShipBucket.marks          wire.marks:SessionMarks.adopt                     see WriterMark
ShipBucket.groups         ps_nodes.replication.snapshots:check_share        see GroupShare
ShipBucket.rows           ps_nodes.tables.bucket_rows:BucketRows.of         names all of its arrays; as the tables here have them
ShipBucket.answers        ps_nodes.replication.snapshots:check_answer       arrays that begin with the number of the bucket
WriterMark.session        wire.marks:SessionMarks.adopt                     names an entry
WriterMark.stamp          wire.marks:SessionMarks.adopt                     compared with stamps of that writer alone
WriterMark.tables         wire.marks:SessionMarks.adopt                     names entries of that writer
GroupShare.group          ps_nodes.replication.follower:Follower.bring      a group that the node knows
GroupShare.clock          wire.shard_times:check_shard_clock                see ShardClock
GroupShare.kept           ps_nodes.replication.snapshots:check_share        see KeptWrite
ShardClock.bucket         wire.shard_times:check_shard_clock                that of the message
ShardClock.ticked         wire.shard_times:check_shard_clock                a clock for each rank
ShardClock.incarnations   wire.shard_times:check_shard_clock                one for each rank, from 0
ShardClock.finished_at    wire.shard_times:check_shard_clock                a clock for each rank
ShardClock.states         wire.shard_times:check_shard_clock                one for each rank
ShardClock.pushed         wire.shard_times:check_shard_clock                a clock for each rank
ShardClock.open_clocks    wire.shard_times:check_shard_clock                clocks
ShardClock.marks          wire.shard_times:check_shard_clock                see ShardMark
ShardClock.settled        wire.shard_times:check_shard_clock                one for each rank
ShardClock.kept_states    wire.shard_times:check_shard_clock                of ranks that there are, with clocks
ShardMark.rank            wire.shard_times:check_shard_clock                0 to num_ranks - 1
ShardMark.table           wire.marks:RankMarks.adopt                        names an entry
ShardMark.stamp           wire.shard_times:check_shard_clock                0 to the largest of a clock
KeptWrite.clock           ps_nodes.replication.snapshots:check_share        0 to MAX_CLOCK - 1
KeptWrite.rank            ps_nodes.replication.snapshots:check_share        0 to num_ranks - 1
KeptWrite.ordinal         ps_nodes.replication.snapshots:check_share        0 to 2**20 - 1
KeptWrite.op              ps_nodes.replication.snapshots:_kept              as of a Step, on its bucket alone
KeptWrite.calls           ps_nodes.functions:prepare                        as of a Call

Attach.tier_id            driver_bridge.coordinator.handlers.lifecycle:attach   that of the tier, or empty
CreateTable.spec          specs:check_spec                                  see TableSpec
TableSpec.name            specs:check_table_name                            1 to 128 characters of a name
TableSpec.kind            wire.codec:decode                                 one of two words
TableSpec.dim             specs:check_spec                                  1 to LARGEST_DIM; 1 of a dense table
TableSpec.dtype           wire.codec:decode                                 one of two words
TableSpec.shape           specs:check_spec                                  1 to 32 extents from 1, LARGEST_SIZE elements in all
TableSpec.init            specs:check_spec                                  values that the dtype can hold
TableSpec.optimizer       specs:check_spec                                  one that the kind and dim allow
TableSpec.seed            specs:check_spec                                  64 bits with a sign
TableSpec.group           specs:check_table_name                            a name, or empty
TableSpec.table           specs:check_spec                                  0 to 2**63 - 1; the coordinator gives its own
TableSpec.index           specs:check_spec                                  0 to 2**63 - 1; the coordinator gives its own
TableSpec.storage         specs:check_spec                                  of sparse tables of float32 alone
FindTable.name            driver_bridge.coordinator.catalog:Catalog.find    names an entry; shown shortened
DropTable.name            driver_bridge.coordinator.catalog:Catalog.drop    names an entry
DropTable.table           driver_bridge.coordinator.catalog:Catalog.drop    the id of that entry
RegisterFunction.name     driver_bridge.coordinator.catalog:Catalog.register    1 to LONGEST_FUNCTION_NAME characters
RegisterFunction.blob     driver_bridge.coordinator.catalog:Catalog.register    MAX_FUNCTION_BYTES of all functions
AdmitGroup.name           specs:check_group                                 1 to LONGEST_GROUP_NAME characters
AdmitGroup.num_workers    specs:check_group                                 from 1
AdmitGroup.num_ranks      specs:check_group                                 num_workers or one more, at most MAX_RANKS; of all groups, too
AdmitGroup.staleness      specs:check_group                                 -1 to STALENESS_LIMIT - 1
AdmitGroup.slots          driver_bridge.coordinator.leases:Groups._fits     compared; ranks of all groups are bounded besides
AdmitGroup.tag            driver_bridge.coordinator.leases:_check_tag       1 to LONGEST_GROUP_NAME characters
AdmitGroup.application    driver_bridge.coordinator.leases:_check_asked     at most LONGEST_APPLICATION characters
AdmitGroup.start          specs:check_start                                 one for each rank, or none; MOST_START_BYTES together
RankStart.clock           specs:check_start                                 -1 to INFINITE_CLOCK - 1
RankStart.finished        wire.shard_times:ShardTimes._begin_at             a bool
RankStart.state           driver_bridge.coordinator.leases:_check_asked     MOST_START_BYTES together
EndGroup.group            driver_bridge.coordinator.leases:Groups.end       names an entry
EndGroup.tag              driver_bridge.coordinator.leases:_check_tag       1 to LONGEST_GROUP_NAME characters; MOST_ENDED are remembered
Lease.group               driver_bridge.coordinator.leases:Groups._live     a group that runs
Lease.rank                driver_bridge.coordinator.leases:Groups._live     0 to num_ranks - 1
Lease.attempt             driver_bridge.coordinator.leases:Groups.lease     from -1, or GIVES_UP
Lease.process             driver_bridge.coordinator.leases:Groups.lease     at most LONGEST_PROCESS characters
Lease.gone                driver_bridge.coordinator.leases:Groups.lease     at most LONGEST_PROCESS characters
Renew.group               driver_bridge.coordinator.leases:Groups._live     a group that runs
Renew.rank                driver_bridge.coordinator.leases:Groups._live     0 to num_ranks - 1
Renew.attempt             driver_bridge.coordinator.leases:Groups._held     the one that holds the rank
Renew.counters            driver_bridge.coordinator.reports:check_counters  MAX_COUNTERS_BYTES; numbers where the driver reads numbers
ReleaseRank.group         driver_bridge.coordinator.leases:Groups.release   names an entry
ReleaseRank.rank          driver_bridge.coordinator.leases:Groups.release   0 to num_ranks - 1
ReleaseRank.attempt       driver_bridge.coordinator.leases:Groups.release   the one that holds the rank
FinishRank.group          driver_bridge.coordinator.leases:Groups._live     a group that runs
FinishRank.rank           driver_bridge.coordinator.leases:Groups._live     0 to num_ranks - 1
FinishRank.attempt        driver_bridge.coordinator.leases:Groups._held     the one that holds the rank
FinishRank.result         driver_bridge.coordinator.leases:Groups.finish    at most MAX_RECORDED_RESULT bytes
FinishRank.counters       driver_bridge.coordinator.reports:check_counters  MAX_COUNTERS_BYTES; numbers where the driver reads numbers
FailRank.group            driver_bridge.coordinator.leases:Groups.fail      names an entry
FailRank.rank             driver_bridge.coordinator.handlers.groups:fail    not used
FailRank.attempt          driver_bridge.coordinator.handlers.groups:fail    not used
FailRank.cause            driver_bridge.coordinator.handlers.groups:fail    see Cause
Cause.error               errors:from_wire                                  a class of sparkps.errors; any other is a TierError
Cause.message             errors:to_wire                                    cut to LONGEST_TEXT
Cause.attributes          errors:to_wire                                    cut to MOST_VALUES and MOST_TEXT
GroupState.group          driver_bridge.coordinator.leases:Groups.get       a group that runs
TierStatus.fresh          driver_bridge.coordinator.handlers.lifecycle:status   a bool; all who ask at once get one report
NodeGone.endpoint         driver_bridge.coordinator.node_registry:NodeRegistry.at   that of a node that is up
NodeGone.reason           errors:to_wire                                    cut where it is told
NodeGone.attempt          driver_bridge.coordinator.node_registry:NodeRegistry.at   that of a node that is up
ScaleTier.num_nodes       driver_bridge.coordinator.handlers.scaling:scale  replication to MOST_NODES
ScaleTier.seconds         driver_bridge.coordinator.handlers.scaling:_begin finite and above 0
AskToStop.discard         driver_bridge.coordinator.handlers.lifecycle:ask_to_stop  a switch
CloseTier.why             driver_bridge.coordinator.handlers.lifecycle:close  text for the words of an error
DrainNode.node            driver_bridge.coordinator.handlers.scaling:drain  a node that is up
DrainNode.seconds         driver_bridge.coordinator.handlers.scaling:_begin finite and above 0
TakeCheckpoint.url        driver_bridge.coordinator.handlers.checkpoints:check_names    1 to LONGEST_URL characters
TakeCheckpoint.checkpoint driver_bridge.coordinator.handlers.checkpoints:check_names    1 to LONGEST_ID characters, no slashes
TakeCheckpoint.base       driver_bridge.coordinator.handlers.checkpoints:check_names    the same, or empty
CheckpointTaken.url       driver_bridge.coordinator.handlers.checkpoints:check_names    1 to LONGEST_URL characters
CheckpointTaken.checkpoint driver_bridge.coordinator.handlers.checkpoints:check_names   1 to LONGEST_ID characters, no slashes
CheckpointTaken.clocks    driver_bridge.coordinator.handlers.checkpoints:taken  at most MAX_RANKS groups, clocks
CheckpointTaken.nbytes    driver_bridge.coordinator.handlers.checkpoints:taken  0 to 2**63 - 1
CheckpointTaken.seconds   driver_bridge.coordinator.handlers.checkpoints:taken  finite, from 0
RestoreCheckpoint.url     driver_bridge.coordinator.handlers.checkpoints:check_names    1 to LONGEST_URL characters
RestoreCheckpoint.checkpoint driver_bridge.coordinator.handlers.checkpoints:check_names 1 to LONGEST_ID characters, no slashes
RestoreCheckpoint.tables  driver_bridge.coordinator.handlers.restoring:restore  at most MAX_TABLES, see TableSpec
RestoreCheckpoint.group   driver_bridge.coordinator.handlers.restoring:restore  names an entry
RestoreCheckpoint.old_group ps_nodes.checkpointing.loading:_Loading._mark   compared with ids in the checkpoint
LogLines.origin           driver_bridge.coordinator.log_book:LogBook.add    cut
LogLines.lines            driver_bridge.coordinator.log_book:LogBook._add   MOST_LINES and MOST_CHARACTERS are kept
LogLines.dropped          driver_bridge.coordinator.log_book:LogBook.add    one line, if above 0
LogLine.level             driver_bridge.coordinator.log_book:LogBook.add    cut to [0, 100]
LogLine.logger            driver_bridge.coordinator.log_book:LogBook.add    cut
LogLine.text              driver_bridge.coordinator.log_book:LogBook._add   MOST_CHARACTERS of all are kept
FetchLog.after            driver_bridge.coordinator.log_book:LogBook.after  what is no number of a record counts as 0
GiveToken.token           driver_bridge.coordinator.handlers.tokens:give    see NodeToken; at most MOST_SERVICES
NodeToken.service         driver_bridge.coordinator.handlers.tokens:give    1 to LONGEST_TOKEN characters
NodeToken.text            driver_bridge.coordinator.handlers.tokens:give    at most LONGEST_TOKEN characters
NodeToken.addresses       driver_bridge.coordinator.handlers.tokens:give    at most MOST_ADDRESSES
NodeToken.is_ours         driver_bridge.coordinator.handlers.tokens:give    a bool
Meet.group                driver_bridge.coordinator.leases:Groups._live     a group that runs
Meet.rank                 driver_bridge.coordinator.leases:Groups.meet      that of a worker
Meet.attempt              driver_bridge.coordinator.leases:Groups._held     the one that holds the rank
Meet.after                driver_bridge.coordinator.leases:Groups.meet      0 to MOST_MEETINGS - 1
Meet.said                 driver_bridge.coordinator.leases:Groups.meet      at most MAX_SAID bytes
NodeHello.endpoint        driver_bridge.coordinator.node_registry:_check_hello  1 to LONGEST_ENDPOINT characters, no other node's
NodeHello.host            driver_bridge.coordinator.node_registry:_check_hello  1 to LONGEST_HOST characters
NodeHello.pid             driver_bridge.coordinator.node_registry:_check_hello  0 to 2**31 - 1
NodeHello.job             driver_bridge.coordinator.node_registry:_check_hello  -1 to 2**31 - 1
NodeHello.attempt         driver_bridge.coordinator.node_registry:_check_hello  -1 to 2**63 - 1
Heartbeat.node            driver_bridge.coordinator.node_registry:NodeRegistry.heartbeat    a node that is up
Heartbeat.report          driver_bridge.coordinator.reports:checked_report  of the node's own connection; what has its form
CommandDone.node          driver_bridge.coordinator.handlers.nodes:command_done the node of that connection
CommandDone.cause         driver_bridge.coordinator.commands:Commands.answered  see Cause
CommandDone.report        driver_bridge.coordinator.reports:clocks_of       `part_of` and, of figures, `checked_report`: what has its form

Refused.error             errors:from_wire                                  a class of sparkps.errors; any other is a TierError
Refused.message           errors:from_wire                                  text
Refused.attributes        errors:from_wire                                  plain values, read by name
Attached.tier_id          client.links:Links.__init__                       not used
Attached.epoch            client.links:Links._take_in_placement             compared with the newest that is known
Attached.placement        wire.placement:check_placement                    256 rows of ids that are among its nodes
Attached.nodes            client.links:Links._take_in_placement             see NodeInfo
Attached.settings         config:ClientSettings.__post_init__               checked where they are made
TableCreated.spec         client.control:Inquiry.answer                     from the coordinator, which has checked it
Admitted.spec             client.control:Inquiry.answer                     from the coordinator, which has checked it
GroupSpec.group           specs:check_group_spec                            from 1
GroupSpec.name            specs:check_group_spec                            1 to LONGEST_GROUP_NAME characters
GroupSpec.num_ranks       specs:check_group_spec                            at most MAX_RANKS
GroupSpec.num_workers     specs:check_group_spec                            from 1
GroupSpec.staleness       specs:check_group_spec                            -1 to STALENESS_LIMIT - 1
GroupSpec.start           specs:check_group_spec                            one for each rank, or none
Queued.position           client.control:Inquiry.answer                     for words
Queued.running            client.control:Inquiry.answer                     for words
Leased.incarnation        wire.fences:Fences.rank                           said to nodes, which compare it
Leased.started            client.control:Inquiry.answer                     a bool
Wait.reason               client.control:Inquiry.answer                     for words
Wait.holder               lifeline:is_gone                                  the name of a process, parsed
Recorded.result           client.control:Inquiry.answer                     bytes; what a rank has returned
Renewed.all_started       client.control:Inquiry.answer                     a bool
Renewed.failed            errors:from_wire                                  see Cause
Renewed.meeting           client.control:Inquiry.answer                     compared
Met.number                client.control:Inquiry.answer                     compared
Met.said                  client.control:Inquiry.answer                     bytes by rank, read by who has said them
GroupReport.group         client.control:Inquiry.answer                     not used
GroupReport.state         client.control:Inquiry.answer                     compared
GroupReport.cause         errors:from_wire                                  see Cause
GroupReport.all_started   client.control:Inquiry.answer                     a bool
GroupReport.ranks         client.control:Inquiry.answer                     see RankReport
RankReport.rank           client.control:Inquiry.answer                     names an entry
RankReport.state          client.control:Inquiry.answer                     compared
RankReport.attempt        client.control:Inquiry.answer                     compared
RankReport.incarnation    client.control:Inquiry.answer                     compared
RankReport.counters       driver_bridge.coordinator.reports:check_counters  the coordinator has checked them
TierReport.report         driver_bridge.coordinator.reports:checked_report  the coordinator has checked what nodes say
CheckpointWritten.tier_id client.control:Inquiry.answer                     for the manifest
CheckpointWritten.tables  client.control:Inquiry.answer                     for the manifest
CheckpointWritten.groups  client.control:Inquiry.answer                     for the manifest
CheckpointWritten.parts   driver_bridge.coordinator.reports:part_of         bytes, decoded by type where the manifest is made
LogFetched.last           driver_bridge.log_fetching:LogFetching._fetch     said again in the next question
LogFetched.lines          driver_bridge.log_fetching:LogFetching._tell      see KeptLine
LogFetched.dropped        driver_bridge.log_fetching:LogFetching._fetch     for words
KeptLine.origin           driver_bridge.log_fetching:LogFetching._tell      one of LOGGERS, or the package's
KeptLine.line             driver_bridge.log_fetching:LogFetching._tell      see LogLine
DueTokens.services        client.control:Inquiry.answer                     names entries

TakeTokens.tokens         driver_bridge.coordinator.handlers.tokens:give    see NodeToken
VerifyCheckpoint.url      checkpoints.files:open_files                      a URL that can be opened
VerifyCheckpoint.checkpoint checkpoints.store:CheckpointStore.read          one of those that are there
VerifyCheckpoint.nodes    ps_nodes.checkpointing.loading:verify             not empty
CopyBuckets.buckets       ps_nodes.handlers.commands:_copy_buckets          0 to 255, and ones that the node leads
CopyBuckets.target        ps_nodes.handlers.commands:_copy_buckets          another node that is up
CopyBuckets.nodes         ps_nodes.handlers.commands:_copy_buckets          see NodeInfo
WriteCheckpoint.url       checkpoints.files:open_files                      a URL that can be opened
WriteCheckpoint.checkpoint driver_bridge.coordinator.handlers.checkpoints:check_names   1 to LONGEST_ID characters, no slashes
WriteCheckpoint.tables    ps_nodes.tables.directory:Tables.use              tables that are there
WriteCheckpoint.clocks    ps_nodes.checkpointing.writing:write              by group; of groups that are open
WriteCheckpoint.epoch     ps_nodes.checkpointing.writing:write              that of the node's placement
WriteCheckpoint.base      checkpoints.store:CheckpointStore.read            one of those that are there, or all is written
LoadCheckpoint.url        checkpoints.files:open_files                      a URL that can be opened
LoadCheckpoint.checkpoint checkpoints.store:CheckpointStore.read            one of those that are there
LoadCheckpoint.tables     ps_nodes.tables.directory:_check_fits             see TableInto
LoadCheckpoint.group      ps_nodes.checkpointing.loading:_Loading._mark     a group that is open, or nothing is done
LoadCheckpoint.old_group  ps_nodes.checkpointing.loading:_Loading._mark     compared with ids in the checkpoint
LoadCheckpoint.epoch      ps_nodes.checkpointing.loading:load               that of the node's placement
TableInto.old_table       ps_nodes.checkpointing.loading:_Loading._mark     names an entry
TableInto.old_index       ps_nodes.checkpointing.records:rows_of            names an entry
TableInto.table           ps_nodes.tables.directory:_check_fits             rows as the table here has them
TableInto.index           ps_nodes.tables.directory:_check_fits             that of the table here
Welcome.node              ps_nodes.handlers.commands:welcome                the node's id
Welcome.tier_id           ps_nodes.coordinator_link:CoordinatorLink._welcome    for words
Welcome.epoch             ps_nodes.replication.handover:_Change.begin       above the node's own
Welcome.placement         wire.placement:check_placement                    256 rows of ids that are among its nodes
Welcome.tables            specs:check_spec                                  see TableSpec
Welcome.functions         ps_nodes.functions:register                       loaded on a thread of users' functions
Welcome.groups            specs:check_group_spec                            see GroupSpec
Welcome.settings          config:NodeSettings.__post_init__                 checked where they are made
Welcome.nodes             wire.placement:check_placement                    see NodeInfo
Welcome.log_level         log_forwarding:LogForwarder                       a level of logging
Welcome.tokens            driver_bridge.coordinator.handlers.tokens:give    see NodeToken
Alive.known               ps_nodes.coordinator_link:CoordinatorLink._alive  a bool
SetPlacement.epoch        ps_nodes.replication.handover:_Change.begin       above the node's own
SetPlacement.placement    wire.placement:check_placement                    256 rows of ids that are among its nodes
SetPlacement.nodes        wire.placement:check_placement                    see NodeInfo
SetPlacement.anew         ps_nodes.replication.handover:place               0 to 255
SetPlacement.is_restoring ps_nodes.closed:Serving                           a bool
SetPlacement.torn         ps_nodes.closed:Serving                           for words
SetPlacement.missing      wire.buckets:unpacked                             sets of buckets, by table
OpenGroup.spec            specs:check_group_spec                            see GroupSpec
FailGroup.group           ps_nodes.handlers.commands:_fail_group            names an entry
FailGroup.cause           errors:from_wire                                  see Cause
CloseGroup.group          ps_nodes.handlers.commands:_close_group           names an entry
"""

#: Modules whose values raise where they are made, also by the codec, if a field of theirs has not what it must have.
CHECK_THEMSELVES = ("sparkps.config", "sparkps.initializers", "sparkps.optim")

#: Control messages begin with their number: of a request it must be above that of the connection's last one, an answer repeats it, a
#: node repeats that of a command.
SEQ = ("driver_bridge.coordinator.connections:Connections.begin", "compared with that of the connection's last request")


def rows() -> dict[tuple[str, str], tuple[str, str]]:
    """By class and field: the function that looks, and what must hold."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for line in filter(None, TABLE.splitlines()):
        name, where, must = line.split(maxsplit=2)
        owner, field = name.split(".")
        assert (owner, field) not in found, f"{name} is there twice"
        found[owner, field] = (where, must)
    return found

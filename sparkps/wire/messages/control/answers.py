"""Which messages may answer which request to the coordinator; `Refused` may answer any."""

from __future__ import annotations

from sparkps.wire.messages.base import ControlMessage
from sparkps.wire.messages.control import checkpoints, groups, logs, nodes, tables, tier, tokens

ANSWERS: dict[type[ControlMessage], tuple[type[ControlMessage], ...]] = {
    tables.CreateTable: (tables.TableCreated,),
    tables.FindTable: (tables.TableCreated,),
    tables.DropTable: (tier.Accepted,),
    tables.RegisterFunction: (tier.Accepted,),
    groups.AdmitGroup: (groups.Admitted, groups.Queued),
    groups.EndGroup: (tier.Accepted,),
    groups.Lease: (groups.Leased, groups.Wait, groups.Recorded),
    groups.Renew: (groups.Renewed,),
    groups.Meet: (groups.Met, groups.Wait),
    groups.ReleaseRank: (tier.Accepted,),
    groups.FinishRank: (tier.Accepted,),
    groups.FailRank: (tier.Accepted,),
    groups.GroupState: (groups.GroupReport,),
    tier.Attach: (tier.Attached,),
    tier.TierStatus: (tier.TierReport,),
    tier.AskToStop: (tier.Accepted,),
    tier.CloseTier: (tier.Accepted,),
    tier.StopTier: (tier.Accepted,),
    tier.NodeGone: (tier.Accepted,),
    tier.ScaleTier: (tier.Accepted,),
    tier.DrainNode: (tier.Accepted,),
    checkpoints.TakeCheckpoint: (checkpoints.CheckpointWritten,),
    checkpoints.CheckpointTaken: (tier.Accepted,),
    checkpoints.RestoreCheckpoint: (tier.Accepted,),
    tokens.GiveToken: (tier.Accepted,),
    tokens.FindDueTokens: (tokens.DueTokens,),
    logs.FetchLog: (logs.LogFetched,),
    nodes.NodeHello: (nodes.Welcome,),
}

__all__ = ["ANSWERS"]

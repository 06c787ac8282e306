# said: Warning: Use of multiple queue statements in a single submit file is deprecated.
# said:          This functionality will be removed in the V24 feature series. To see
# said:          how multiple queue statements can be converted into one visit:
# said: https://htcondor.readthedocs.io/en/latest/auto-redirect.html?category=example&tag=convert-multi-queue-statements

ClusterId=1
In="/dev/null"
Cmd="/submit/job.sh"
Err="/dev/null"
Iwd="/submit"
Out="/dev/null"
Args="first a"
Rank=0.0
Owner=undefined
QDate=1795632573
MyType="Job"
JobPrio=0
MaxHosts=1
MinHosts=1
NumCkpts=0
DiskUsage=1
ImageSize=1
ExitStatus=0
TargetType="Machine"
TransferIn=false
Environment=""
JobUniverse=5
NumRestarts=0
RequestCpus=1
RequestDisk=DiskUsage
TransferErr=false
TransferOut=false
CurrentHosts=0
ExitBySignal=false
NumJobStarts=0
RemoteSysCpu=0.0
Requirements=(TARGET.Arch == "X86_64") && (TARGET.OpSys == "LINUX") && (TARGET.Disk >= RequestDisk) && (TARGET.Memory >= RequestMemory) && ((TARGET.FileSystemDomain == MY.FileSystemDomain) || (TARGET.HasFileTransfer))
CommittedTime=0
CondorVersion="$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $"
JobSubmitFile="queue-several.sub"
RemoteUserCpu=0.0
RequestMemory=ifthenelse(MemoryUsage =!= undefined,MemoryUsage,(ImageSize + 1023) / 1024)
CondorPlatform="$CondorPlatform: X86_64-Debian_13 $"
ExecutableSize=1
NumSystemHolds=0
JobNotification=0
JobSubmitMethod=0
LeaveJobInQueue=false
FileSystemDomain="files.pool.example"
JobLeaseDuration=2400
TotalSuspensions=0
CommittedSlotTime=0
NumJobCompletions=0
CumulativeSlotTime=0
LastSuspensionTime=0
RemoteWallClockTime=0.0
ShouldTransferFiles="IF_NEEDED"
TransferInputSizeMB=0
EnteredCurrentStatus=1795632573
WhenToTransferOutput="ON_EXIT"
CumulativeRemoteSysCpu=0.0
CommittedSuspensionTime=0
CumulativeRemoteUserCpu=0.0
CumulativeSuspensionTime=0
ProcId=0
JobStatus=1

ProcId=1
JobStatus=1
Args="first b"

ProcId=2
JobStatus=1
Args="second <Queue_item>"

ProcId=3
JobStatus=1
Args="third 1 2"

ProcId=4
JobStatus=1
Args="third 3 4"

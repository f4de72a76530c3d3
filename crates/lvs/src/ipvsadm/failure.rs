//! What ipvsadm says when a director refuses.

use super::command::Command;
use crate::operation::{Operation, OperationError};

/// The line for standard error, and the exit code.
pub fn failure_for(command: &Command, error: &OperationError) -> (String, u8) {
    let of_server = matches!(
        command,
        Command::Change(
            Operation::AddServer { .. }
                | Operation::EditServer { .. }
                | Operation::DeleteServer { .. }
        )
    );
    // Not ipvsadm's, so there are no words of its that must be used.
    let of_setting = matches!(
        command,
        Command::Change(Operation::Set { .. } | Operation::SetSettings(_))
    );
    let text = match error {
        OperationError::ServiceExists => "Service already exists",
        OperationError::NoSuchService if of_server => "Service not defined",
        OperationError::NoSuchService => "No such service",
        OperationError::ServerExists => "Destination already exists",
        OperationError::NoSuchServer => "No such destination",
        OperationError::NoSuchScheduler | OperationError::NoSuchPersistenceEngine => {
            "Scheduler or persistence engine not found"
        }
        OperationError::WeightOutOfRange | OperationError::ThresholdsOutOfRange => {
            "Numerical result out of range"
        }
        OperationError::Invalid(text) if of_setting => text,
        OperationError::AddressNotUnicast | OperationError::Invalid(_) => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        OperationError::NotPermitted => "Permission denied (you must be root)",
        OperationError::DaemonRuns => "Daemon has already run",
        OperationError::DaemonDoesNotRun => "No daemon is running",
        OperationError::NoSuchDevice => "No such device",
        OperationError::Unsupported(text) => text,
    };
    let code = if matches!(command, Command::List(_)) {
        1
    } else {
        255
    };
    (text.to_owned(), code)
}

//! Machines made from a seed: every kind of state, nested, in both languages; and a host that answers from the same seed.

use serde_json::{Map, Value, json};
use weir_asl::randomness::{Randomness, Seeded};

/// Makes machines.
pub struct Generator {
    source: Seeded,
    names: u32,
    is_jsonata: bool,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        let mut source = Seeded::new(seed);
        let is_jsonata = source.next_u64().is_multiple_of(3);
        Self {
            source,
            names: 0,
            is_jsonata,
        }
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.source.next_u64() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A whole definition.
    pub fn machine(&mut self) -> Value {
        let mut machine = self.flow(0);
        machine["QueryLanguage"] = if self.is_jsonata {
            "JSONata"
        } else {
            "JSONPath"
        }
        .into();
        if self.chance(10) {
            machine["TimeoutSeconds"] = (1 + self.below(200)).into();
        }
        machine
    }

    fn flow(&mut self, depth: u32) -> Value {
        let count = 1 + self.below(if depth == 0 { 5 } else { 3 }) as usize;
        let names: Vec<String> = (0..count)
            .map(|_| {
                self.names += 1;
                format!("S{}", self.names)
            })
            .collect();
        let mut states = Map::new();
        for index in 0..count {
            let state = self.state(&names, index, depth);
            states.insert(names[index].clone(), state);
        }
        json!({"StartAt": names[0], "States": states})
    }

    /// A state that leads to the next one, so that all are reached; rules and catchers lead further on.
    fn state(&mut self, names: &[String], index: usize, depth: u32) -> Value {
        let is_last = index + 1 == names.len();
        let mut state = match self.below(if depth < 2 { 12 } else { 8 }) {
            2..=4 => self.task(),
            5 if !is_last => return self.choice(names, index),
            5 | 6 => json!({"Type": "Wait", "Seconds": self.below(20)}),
            7 if is_last && self.chance(40) => {
                return json!({"Type": "Fail", "Error": "Stopped", "Cause": "by the machine"});
            }
            7 if is_last => return json!({"Type": "Succeed"}),
            8 | 9 => self.parallel(depth),
            10 | 11 => self.map(depth),
            _ => self.pass(),
        };
        if is_last {
            state["End"] = true.into();
        } else {
            state["Next"] = names[index + 1].clone().into();
        }
        if matches!(state["Type"].as_str(), Some("Task" | "Parallel" | "Map")) {
            self.handlers(&mut state, names, index);
        }
        if self.chance(25) {
            let name = format!("v{depth}_{}", self.below(3));
            let value = match (self.is_jsonata, self.chance(50)) {
                (_, true) => (name, json!([1.1, 0.1])),
                (true, false) => (name, json!("{% $random() %}")),
                (false, false) => (format!("{name}.$"), json!("States.MathRandom(0, 1000)")),
            };
            state["Assign"] = json!({value.0: value.1});
        }
        state
    }

    fn pass(&mut self) -> Value {
        match (self.is_jsonata, self.below(3)) {
            (false, 0) => {
                json!({"Type": "Pass", "Result": {"n": 0.1, "t": "x"}, "ResultPath": "$.kept"})
            }
            (false, 1) => json!({"Type": "Pass", "Parameters": {
                "all.$": "$", "name.$": "$$.State.Name", "id.$": "States.UUID()"
            }}),
            (true, 0) => {
                json!({"Type": "Pass", "Output": {"all": "{% $states.input %}", "id": "{% $uuid() %}"}})
            }
            _ => json!({"Type": "Pass"}),
        }
    }

    fn task(&mut self) -> Value {
        let resources = [
            "arn:aws:lambda:us-east-1:111111111111:function:f",
            "arn:aws:states:::lambda:invoke",
            "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
            "arn:aws:states:us-east-1:111111111111:activity:a",
        ];
        let mut task = json!({"Type": "Task", "Resource": resources[self.below(4) as usize]});
        let field = if self.is_jsonata {
            "Arguments"
        } else {
            "Parameters"
        };
        if self.chance(40) {
            task[field] = if self.is_jsonata {
                json!({"given": "{% $states.input %}"})
            } else {
                json!({"given.$": "$"})
            };
        }
        if self.chance(40) {
            task["TimeoutSeconds"] = (10 + self.below(30)).into();
            if self.chance(50) {
                task["HeartbeatSeconds"] = (1 + self.below(9)).into();
            }
        }
        if !self.is_jsonata && self.chance(30) {
            task["ResultPath"] = "$.kept.deep".into();
        }
        task
    }

    fn choice(&mut self, names: &[String], index: usize) -> Value {
        let later = self.later(names, index);
        let rule = if self.is_jsonata {
            json!({"Condition": "{% $random() < 0.5 %}", "Next": later})
        } else {
            json!({"Variable": "$", "IsNull": self.chance(50), "Next": later})
        };
        json!({"Type": "Choice", "Choices": [rule], "Default": names[index + 1]})
    }

    fn later(&mut self, names: &[String], index: usize) -> String {
        let first = index + 1;
        names[first + self.below((names.len() - first) as u64) as usize].clone()
    }

    fn parallel(&mut self, depth: u32) -> Value {
        let count = 1 + self.below(3);
        let branches: Vec<Value> = (0..count).map(|_| self.flow(depth + 1)).collect();
        json!({"Type": "Parallel", "Branches": branches})
    }

    fn map(&mut self, depth: u32) -> Value {
        let mut processor = self.flow(depth + 1);
        let is_distributed = self.chance(35);
        processor["ProcessorConfig"] = if is_distributed {
            json!({"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"})
        } else {
            json!({"Mode": "INLINE"})
        };
        let mut map =
            json!({"Type": "Map", "ItemProcessor": processor, "MaxConcurrency": self.below(4)});
        let items: Vec<u64> = (0..self.below(5)).collect();
        if self.is_jsonata {
            map["Items"] = json!(items);
            map["ItemSelector"] = json!({"item": "{% $states.context.Map.Item.Value %}", "random": "{% $random() %}"});
        } else {
            map["ItemsPath"] = "$$.Execution.Input.items".into();
            if self.chance(50) {
                map["ItemSelector"] =
                    json!({"i.$": "$$.Map.Item.Index", "v.$": "$$.Map.Item.Value"});
            }
        }
        if is_distributed && self.chance(50) {
            map["ToleratedFailurePercentage"] = 50.into();
        }
        if is_distributed && self.chance(30) {
            map["ItemBatcher"] = json!({"MaxItemsPerBatch": 2});
        }
        map
    }

    fn handlers(&mut self, state: &mut Value, names: &[String], index: usize) {
        if self.chance(50) {
            state["Retry"] = json!([
                {"ErrorEquals": ["ErrorA"], "IntervalSeconds": 1, "MaxAttempts": self.below(3), "BackoffRate": 1.7,
                 "JitterStrategy": "FULL"},
                {"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}
            ]);
        }
        if index + 1 < names.len() && self.chance(50) {
            state["Catch"] =
                json!([{"ErrorEquals": ["States.ALL"], "Next": self.later(names, index)}]);
        }
    }
}
